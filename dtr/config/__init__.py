"""Everything that can be said in YAML. Free of torch: Snakemake reads it in every job."""
