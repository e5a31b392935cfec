# Networks that the benchmark needs but does not compare: the autoencoder and the extractor.


rule train_autoencoder:
    input:
        data=autoencoder_data,
    output:
        record=PLACES.autoencoder("{autoencoder}"),
        weights=PLACES.weights_of(PLACES.autoencoder("{autoencoder}")),
    log:
        PLACES.log("autoencoders", "{autoencoder}"),
    priority: 2  # all latent models of a slot wait for it: the slowest begin first
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=autoencoder_settings,
        revision=REVISIONS["autoencoder"],
        part=autoencoder_part,
        folder=subpath(output.record, parent=True),
    shell:
        "python -m dtr train-autoencoder --settings {params.settings:q} --data {input.data:q}"
        " --out {params.folder:q} --threads {threads} 2>&1 | tee {log:q}"


rule train_extractor:
    input:
        data=extractor_data,
    output:
        record=PLACES.extractor("{extractor}"),
        weights=PLACES.weights_of(PLACES.extractor("{extractor}")),
    log:
        PLACES.log("extractors", "{extractor}"),
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=extractor_settings,
        revision=REVISIONS["extractor"],
        part=extractor_part,
        folder=subpath(output.record, parent=True),
    shell:
        "python -m dtr train-extractor --settings {params.settings:q} --data {input.data:q}"
        " --out {params.folder:q} --threads {threads} 2>&1 | tee {log:q}"
