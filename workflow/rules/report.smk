# Tables, figures and the page, from whatever records exist.


rule report:
    input:
        planning.measured_records(SCALE),
    output:
        "<results>/report/index.html",
    log:
        "<results>/logs/report.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=as_json(SCALE),
    shell:
        "python -m dtr report --settings {params.settings:q} 2>&1 | tee {log}"
