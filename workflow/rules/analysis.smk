# What is measured without samples: similarity between timesteps, and the speed of training.


rule cka:
    input:
        model=final_record,
        data=training_data,
    output:
        PLACES.cka("{run}", "{seed}"),
    log:
        PLACES.log("analysis", "cka-{run}-seed{seed}"),
    conda:
        ENVIRONMENT
    resources:
        gpu=GPUS,
        device=SCALE.execution.device,
    params:
        model=subpath(input.model, parent=True),
        images=SCALE.analysis.cka_images,
        batch_size=SCALE.analysis.cka_batch_size,
        revision=REVISIONS["metrics"],
    shell:
        "python -m dtr cka --model {params.model:q} --data {input.data:q} --images {params.images}"
        " --batch-size {params.batch_size} --out {output:q} --device {resources.device}"
        " --threads {threads} 2>&1 | tee {log:q}"


# The paper's own sizes at any scale. DiT-L/2 with its optimiser state needs 9.2 GB.
rule throughput:
    output:
        PLACES.throughput("{size}"),
    log:
        PLACES.log("analysis", "throughput-{size}"),
    priority: 3  # while the machine is quiet
    conda:
        ENVIRONMENT
    threads: SCALE.execution.throughput_threads
    resources:
        gpu=GPUS,
        device=SCALE.execution.device,
        mem_mb=10_000,
    params:
        backbone=timed_backbone,
        batch_size=SCALE.analysis.throughput_batch_size,
        pairs=SCALE.analysis.throughput_pairs,
        seconds=SCALE.analysis.throughput_seconds,
        revision=REVISIONS["throughput"],
    shell:
        "python -m dtr throughput --backbone {params.backbone} --pairs {params.pairs}"
        " --seconds {params.seconds}"
        " --batch-size {params.batch_size} --out {output:q} --device {resources.device}"
        " --threads {threads} 2>&1 | tee {log:q}"


# Asked for by name: `snakemake noise`. Each model of Table 1 with DTR or without is sampled anew.
rule noise:
    input:
        noise.noise_records(SCALE),
    output:
        PLACES.figure("noise"),
        PLACES.beside(PLACES.figure("noise"), ".png", ".pdf"),
    log:
        PLACES.log("analysis", "noise"),
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=SETTINGS,
        out=subpath(output[0], parent=True),
    shell:
        "python -m dtr noise --settings {params.settings:q} --out {params.out:q} 2>&1 | tee {log:q}"
