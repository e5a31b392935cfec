"""From records to tables, figures, verdicts and the page."""
