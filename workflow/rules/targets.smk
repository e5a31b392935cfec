# One table, figure or the like asked for by name: `snakemake --cores 2 table4` trains what it needs. The
# records stand beside the file: where they are missing, a file that somebody left does not do.


rule table1:
    input:
        PLACES.table("table1"),
        targets.target_records(SCALE, "table1"),


rule table2:
    input:
        PLACES.table("table2"),
        targets.target_records(SCALE, "table2"),


rule table3:
    input:
        PLACES.table("table3"),
        targets.target_records(SCALE, "table3"),


rule table4:
    input:
        PLACES.table("table4"),
        targets.target_records(SCALE, "table4"),


rule table5:
    input:
        PLACES.table("table5"),
        targets.target_records(SCALE, "table5"),


rule table6:
    input:
        PLACES.table("table6"),
        targets.target_records(SCALE, "table6"),


rule table7:
    input:
        PLACES.table("table7"),
        targets.target_records(SCALE, "table7"),


rule table8:
    input:
        PLACES.table("table8"),
        targets.target_records(SCALE, "table8"),


rule figure2:
    input:
        PLACES.figure("figure2"),
        targets.target_records(SCALE, "figure2"),


rule figure3:
    input:
        PLACES.figure("figure3"),
        targets.target_records(SCALE, "figure3"),


rule figure4:
    input:
        PLACES.figure("figure4"),
        targets.target_records(SCALE, "figure4"),


rule figure5:
    input:
        PLACES.figure("figure5"),
        targets.target_records(SCALE, "figure5"),


rule figure6:
    input:
        PLACES.figure("figure6"),
        targets.target_records(SCALE, "figure6"),


rule claims:
    input:
        rules.verdicts.input,
        rules.verdicts.output,


rule report:
    input:
        rules.page.input,
        rules.page.output,


rule samples:
    input:
        targets.measured_records(SCALE, "table1"),
        rules.report.input,
