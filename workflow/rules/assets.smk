# Networks that the benchmark needs but does not compare: the autoencoder and the extractor.


rule train_autoencoder:
    input:
        data=autoencoder_data,
    output:
        record="<results>/autoencoders/{autoencoder}/record.json",
        weights="<results>/autoencoders/{autoencoder}/weights.safetensors",
    log:
        "<results>/logs/autoencoders/{autoencoder}.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=autoencoder_settings,
        revision=REVISIONS["autoencoder"],
        folder=subpath(output.record, parent=True),
    shell:
        "python -m dtr train-autoencoder --settings {params.settings:q} --data {input.data:q}"
        " --out {params.folder:q} --threads {threads} 2>&1 | tee {log:q}"


rule train_extractor:
    input:
        data=extractor_data,
    output:
        record="<results>/extractors/{extractor}/record.json",
        weights="<results>/extractors/{extractor}/weights.safetensors",
    log:
        "<results>/logs/extractors/{extractor}.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=extractor_settings,
        revision=REVISIONS["extractor"],
        folder=subpath(output.record, parent=True),
    shell:
        "python -m dtr train-extractor --settings {params.settings:q} --data {input.data:q}"
        " --out {params.folder:q} --threads {threads} 2>&1 | tee {log:q}"
