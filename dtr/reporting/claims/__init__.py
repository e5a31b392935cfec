"""The paper's claims, the comparisons behind them, and the verdicts."""
