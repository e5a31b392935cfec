# One job per run, seed and milestone. Checkpoints live in an undeclared work directory, keyed by a
# fingerprint, which Snakemake never deletes; the declared outputs are written last.


rule train:
    input:
        data=training_data,
        earlier=previous_milestone,
    output:
        record=PLACES.training("{run}", "{seed}", "{step}"),
        weights=PLACES.weights_of(PLACES.training("{run}", "{seed}", "{step}")),
    log:
        PLACES.log("train", "{run}-seed{seed}-step{step}"),
    priority: 1  # long chains first: the short jobs after them fill the cores to the end
    conda:
        ENVIRONMENT
    threads: SCALE.execution.processes
    resources:
        **ALLOCATION,
        gpu=GPUS * SCALE.execution.processes * SCALE.execution.nodes,
        nodes=SCALE.execution.nodes,
        runtime=SCALE.execution.runtime_minutes,
        device=SCALE.execution.device,
        accumulation=SCALE.execution.accumulation,
        checkpoint_seconds=SCALE.execution.checkpoint_seconds,
        rng=SCALE.execution.rng,
        compile=SCALE.execution.compile,
        recompute=SCALE.execution.recompute,
        attention=SCALE.execution.attention,
        memory_format=SCALE.execution.memory_format,
    params:
        settings=train_settings,
        revision=REVISIONS["train"],
        parts=train_parts,
        work=work_folder,
        folder=subpath(output.record, parent=True),
    shell:
        START_TRAINING + " train --run {wildcards.run} --step {wildcards.step}"
        " --settings {params.settings:q} --data {input.data:q} --work {params.work:q}"
        " --out {params.folder:q} --device {resources.device} --threads {threads}"
        " --accumulation {resources.accumulation} --rng {resources.rng}"
        " --compile {resources.compile} --recompute {resources.recompute}"
        " --attention {resources.attention} --memory-format {resources.memory_format}"
        " --checkpoint-seconds {resources.checkpoint_seconds}"
        " --budget-minutes {resources.runtime} 2>&1 | tee {log:q}"
