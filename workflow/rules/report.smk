# Tables, figures, claims and the page of a scale whose records are all there. What exists at one
# moment is shown by the verb `report`, below now/: no rule declares a file there.


rule table:
    input:
        target_records,
    output:
        report(
            PLACES.table("{table}"),
            caption="../../report/workflow/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        PLACES.beside(PLACES.table("{table}"), ".md", ".tex"),
    log:
        PLACES.log("report", "{table}"),
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
        out=subpath(output[0], parent=True),
    shell:
        "python -m dtr table --settings {params.settings:q} --only {wildcards.table}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule figure:
    input:
        target_records,
    output:
        report(
            PLACES.figure("{figure}"),
            caption="../../report/workflow/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        PLACES.beside(PLACES.figure("{figure}"), ".png", ".pdf"),
    log:
        PLACES.log("report", "{figure}"),
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
        out=subpath(output[0], parent=True),
    shell:
        "python -m dtr figure --settings {params.settings:q} --only {wildcards.figure}"
        " --out {params.out:q} 2>&1 | tee {log:q}"


rule verdicts:
    input:
        targets.target_records(SCALE),
    output:
        report(
            PLACES.claims(),
            caption="../../report/workflow/claims.rst",
            category="Claims",
        ),
        PLACES.beside(PLACES.claims(), ".md", ".json"),
    log:
        PLACES.log("report", "claims"),
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
        out=subpath(output[0], parent=True),
    shell:
        "python -m dtr claims --settings {params.settings:q} --out {params.out:q}"
        " 2>&1 | tee {log:q}"


rule page:
    input:
        targets.target_records(SCALE),
        targets.target_files(SCALE),
        rules.verdicts.output,
    output:
        report(
            PLACES.page(),
            caption="../../report/workflow/page.rst",
            category="Page",
        ),
    log:
        PLACES.log("report", "page"),
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
    shell:
        "python -m dtr page --settings {params.settings:q} 2>&1 | tee {log:q}"
