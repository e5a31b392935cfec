# Images of a trained model, in shards that any number of jobs may draw.


rule sample:
    input:
        model="<model>/train.json",
        weights=ancient("<model>/ema.safetensors"),
        autoencoder=autoencoder_record,
    output:
        "<model>/samples/{protocol}/shard-{shard}.npz",
    log:
        "<results>/logs/sample/{run}-seed{seed}-step{step}-{protocol}-{shard}.log",
    conda:
        "../../envs/environment-cpu.yaml"
    resources:
        device=SCALE.execution.device,
        batch_size=SCALE.evaluation.batch_size,
    params:
        protocol=slot_protocol,
        revision=REVISIONS["sample"],
        shard_size=SCALE.evaluation.shard_size,
        model=subpath(input.model, parent=True),
        autoencoder=subpath(input.autoencoder, parent=True),
    shell:
        "python -m dtr sample --model {params.model} --autoencoder {params.autoencoder}"
        " --protocol {params.protocol:q} --shard {wildcards.shard}"
        " --shard-size {params.shard_size} --batch-size {resources.batch_size}"
        " --out {output} --device {resources.device} --threads {threads} 2>&1 | tee {log}"
