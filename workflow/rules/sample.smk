# Images of a trained model, in shards that any number of jobs may draw.


rule sample:
    input:
        models=model_records,
        decoder=decoder_record,
        prompts=prompts_manifest,
        text_encoder=text_encoder_record,
        extractor=kept_by,
    output:
        PLACES.shard("{name}", "{seed}", "{step}", "{protocol}", "{shard}"),
    log:
        PLACES.log("sample", "{name}-seed{seed}-step{step}-{protocol}-{shard}"),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPUS,
        device=SCALE.execution.device,
        rng=SCALE.execution.rng,
        batch_size=SCALE.evaluation.batch_size,
        decode_batch=SCALE.execution.autoencoder_batch or 0,
    params:
        protocol=protocol_settings,
        revision=REVISIONS["sample"],
        shard_size=SCALE.evaluation.shard_size,
        models=model_folders,
        decoder=decoder_option,
        prompts=prompts_option,
        keep=keep_option,
    shell:
        "python -m dtr sample --model {params.models:q} {params.decoder} {params.prompts}"
        " --protocol {params.protocol:q} --shard {wildcards.shard}"
        " --shard-size {params.shard_size} --batch-size {resources.batch_size}"
        " --decode-batch {resources.decode_batch}"
        " {params.keep}"
        " --out {output:q} --device {resources.device} --rng {resources.rng}"
        " --threads {threads} 2>&1 | tee {log:q}"
