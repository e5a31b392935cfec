# Images of each dataset in shards, their index, and the manifest that all else depends on.


rule prepare_data:
    output:
        manifest=PLACES.dataset("{dataset}"),
        index=PLACES.index("{dataset}"),
    log:
        PLACES.log("data", "{dataset}"),
    priority: 2  # an autoencoder may wait for it, and all latent models of a slot for that
    conda:
        "../../envs/environment-cpu.yaml"
    resources:
        classes=told_classes,
    params:
        settings=dataset_settings,
        revision=REVISIONS["data"],
        part=dataset_part,
        folder=subpath(output.manifest, parent=True),
    shell:
        "python -m dtr prepare-data --dataset {wildcards.dataset} --settings {params.settings:q}"
        " --classes {resources.classes} --out {params.folder:q} 2>&1 | tee {log:q}"
