# Networks that the benchmark needs but does not compare: trained here, or taken over from others.


rule train_autoencoder:
    input:
        data=autoencoder_data,
    output:
        record=PLACES.autoencoder("{autoencoder}"),
        weights=PLACES.weights_of(PLACES.autoencoder("{autoencoder}")),
    log:
        PLACES.log("autoencoders", "{autoencoder}"),
    wildcard_constraints:
        autoencoder=named(SCALE.autoencoders, fetched=False),
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
    wildcard_constraints:
        extractor=named(SCALE.extractors, fetched=False),
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


rule fetch_autoencoder:
    output:
        record=PLACES.autoencoder("{autoencoder}"),
        weights=PLACES.weights_of(PLACES.autoencoder("{autoencoder}")),
    log:
        PLACES.log("autoencoders", "fetch-{autoencoder}"),
    wildcard_constraints:
        autoencoder=named(SCALE.autoencoders, fetched=True),
    priority: 3  # what is missing should be said at once
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=autoencoder_settings,
        revision=REVISIONS["fetch"],
        folder=subpath(output.record, parent=True),
    shell:
        "python -m dtr fetch --kind autoencoder --asset {wildcards.autoencoder}"
        " --settings {params.settings:q} --out {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_extractor:
    output:
        record=PLACES.extractor("{extractor}"),
        weights=PLACES.weights_of(PLACES.extractor("{extractor}")),
    log:
        PLACES.log("extractors", "fetch-{extractor}"),
    wildcard_constraints:
        extractor=named(SCALE.extractors, fetched=True),
    priority: 3  # what is missing should be said at once
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=extractor_settings,
        revision=REVISIONS["fetch"],
        folder=subpath(output.record, parent=True),
    shell:
        "python -m dtr fetch --kind extractor --asset {wildcards.extractor}"
        " --settings {params.settings:q} --out {params.folder:q} 2>&1 | tee {log:q}"


rule fetch_text_encoder:
    output:
        record=PLACES.text_encoder("{text_encoder}"),
        weights=PLACES.weights_of(PLACES.text_encoder("{text_encoder}")),
    log:
        PLACES.log("text_encoders", "fetch-{text_encoder}"),
    wildcard_constraints:
        text_encoder=named(SCALE.text_encoders, fetched=True),
    priority: 3  # what is missing should be said at once
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=fetched_text_encoder_settings,
        revision=REVISIONS["fetch"],
        folder=subpath(output.record, parent=True),
    shell:
        "python -m dtr fetch --kind text_encoder --asset {wildcards.text_encoder}"
        " --settings {params.settings:q} --out {params.folder:q} 2>&1 | tee {log:q}"
