# One table or figure asked for by name: `snakemake --cores 2 table4` trains what it needs.


rule table1:
    input:
        PLACES.table("table1"),


rule table2:
    input:
        PLACES.table("table2"),


rule table3:
    input:
        PLACES.table("table3"),


rule table4:
    input:
        PLACES.table("table4"),


rule table5:
    input:
        PLACES.table("table5"),


rule table6:
    input:
        PLACES.table("table6"),


rule table7:
    input:
        PLACES.table("table7"),


rule table8:
    input:
        PLACES.table("table8"),


rule figure2:
    input:
        PLACES.figure("figure2"),


rule figure3:
    input:
        PLACES.figure("figure3"),


rule figure4:
    input:
        PLACES.figure("figure4"),


rule figure5:
    input:
        PLACES.figure("figure5"),


rule figure6:
    input:
        PLACES.figure("figure6"),


rule samples:
    input:
        targets.measured_records(SCALE, "table1"),
        rules.report.output,
