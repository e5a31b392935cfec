# Features of real images, and one record of metrics per measured model. Features of samples are
# kept beside them in an undeclared folder, for measuring again.


rule real_features:
    input:
        data=PLACES.dataset("{dataset}"),
        extractor=PLACES.extractor("{extractor}"),
    output:
        PLACES.real_features("{dataset}", "{extractor}"),
    log:
        PLACES.log("real", "{dataset}--{extractor}"),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPUS,
        device=SCALE.execution.device,
    params:
        extractor=subpath(input.extractor, parent=True),
        revision=REVISIONS["metrics"],
    shell:
        "python -m dtr real-features --data {input.data:q} --extractor {params.extractor:q}"
        " --out {output:q} --device {resources.device} --threads {threads} 2>&1 | tee {log:q}"


# Published statistics are read, others computed from the training images: metrics say which.
rule reference:
    input:
        data=reference_data,
        extractor=PLACES.extractor("{extractor}"),
    output:
        PLACES.reference("{reference}", "{extractor}"),
    log:
        PLACES.log("references", "{reference}--{extractor}"),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPUS,
        device=SCALE.execution.device,
    params:
        settings=reference_settings,
        data=reference_option,
        extractor=subpath(input.extractor, parent=True),
        revision=REVISIONS["metrics"],
    shell:
        "python -m dtr reference --reference {wildcards.reference} --settings {params.settings:q}"
        " {params.data} --extractor {params.extractor:q} --out {output:q}"
        " --device {resources.device} --threads {threads} 2>&1 | tee {log:q}"


rule measure:
    input:
        models=model_records,
        samples=sample_shards,
        extractor=extractor_record,
        real=real_features,
    output:
        PLACES.metrics("{name}", "{seed}", "{step}", "{protocol}"),
    log:
        PLACES.log("measure", "{name}-seed{seed}-step{step}-{protocol}"),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPUS,
        device=SCALE.execution.device,
    params:
        protocol=protocol_settings,
        slot=slot_of,
        bootstrap=SCALE.evaluation.bootstrap,
        revision=REVISIONS["metrics"],
        models=model_folders,
        extractor=subpath(input.extractor, parent=True),
        features=features_folder,
    shell:
        "python -m dtr measure --model {params.models:q} --samples {input.samples:q}"
        " --extractor {params.extractor:q} --features {params.features:q}"
        " --real {input.real:q} --protocol {params.protocol:q} --slot {params.slot}"
        " --bootstrap {params.bootstrap} --out {output:q} --device {resources.device}"
        " --threads {threads} 2>&1 | tee {log:q}"


rule measure_real:
    input:
        real=real_features,
    output:
        PLACES.real_metrics("{slot}", "{protocol}"),
    log:
        PLACES.log("measure", "real-{slot}-{protocol}"),
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        protocol=protocol_settings,
        bootstrap=SCALE.evaluation.bootstrap,
        revision=REVISIONS["metrics"],
    shell:
        "python -m dtr measure --real {input.real:q} --protocol {params.protocol:q}"
        " --slot {wildcards.slot} --bootstrap {params.bootstrap} --out {output:q}"
        " --threads {threads} 2>&1 | tee {log:q}"
