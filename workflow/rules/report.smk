# Tables, figures and the page, from whatever records exist.


rule table:
    input:
        target_records,
    output:
        report(
            "<results>/tables/{table}.csv",
            caption="../../report/workflow/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        multiext("<results>/tables/{table}", ".md", ".tex"),
    log:
        "<results>/logs/report/{table}.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
    shell:
        "python -m dtr table --settings {params.settings:q} --only {wildcards.table}"
        " 2>&1 | tee {log:q}"


rule figure:
    input:
        target_records,
    output:
        report(
            "<results>/figures/{figure}.svg",
            caption="../../report/workflow/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        multiext("<results>/figures/{figure}", ".png", ".pdf"),
    log:
        "<results>/logs/report/{figure}.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
    shell:
        "python -m dtr figure --settings {params.settings:q} --only {wildcards.figure}"
        " 2>&1 | tee {log:q}"


rule claims:
    input:
        evaluations.target_records(SCALE),
    output:
        report(
            "<results>/claims/claims.csv",
            caption="../../report/workflow/claims.rst",
            category="Claims",
        ),
        multiext("<results>/claims/claims", ".md", ".json"),
    log:
        "<results>/logs/report/claims.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
    shell:
        "python -m dtr claims --settings {params.settings:q} 2>&1 | tee {log:q}"


rule report:
    input:
        evaluations.target_records(SCALE),
    output:
        report(
            "<results>/report/index.html",
            caption="../../report/workflow/page.rst",
            category="Page",
        ),
    log:
        "<results>/logs/report/page.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
    shell:
        "python -m dtr report --settings {params.settings:q} 2>&1 | tee {log:q}"
