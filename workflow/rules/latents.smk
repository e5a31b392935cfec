# Training images encoded once. Later stages depend on the small manifest, not on the shards.


rule cache_latents:
    input:
        data=PLACES.dataset("{dataset}"),
        autoencoder=PLACES.autoencoder("{autoencoder}"),
        text_encoder=captions_record,
    output:
        manifest=PLACES.latents("{dataset}", "{autoencoder}"),
    log:
        PLACES.log("latents", "{dataset}--{autoencoder}"),
    priority: 2  # all trainings of a slot wait for it
    conda:
        ENVIRONMENT
    threads: SCALE.execution.processes
    resources:
        gpu=GPUS * SCALE.execution.processes,
        device=SCALE.execution.device,
        encode_batch=SCALE.execution.autoencoder_batch or 0,
    params:
        revision=REVISIONS["latents"],
        folder=subpath(output.manifest, parent=True),
        autoencoder=subpath(input.autoencoder, parent=True),
        options=caching_options,
    shell:
        START + " cache-latents --data {input.data:q}"
        " --autoencoder {params.autoencoder:q} {params.options}"
        " --encode-batch {resources.encode_batch}"
        " --out {params.folder:q} --device {resources.device} --threads {threads} 2>&1 | tee {log:q}"
