# Images of each dataset, with their index and the manifest that everything later depends on.


rule prepare_data:
    output:
        manifest="<results>/data/{dataset}/manifest.json",
        index="<results>/data/{dataset}/index.parquet",
        images="<results>/data/{dataset}/images.npy",
    log:
        "<results>/logs/data/{dataset}.log",
    conda:
        "../../envs/environment-cpu.yaml"
    params:
        settings=dataset_settings,
        revision=REVISIONS["data"],
        folder=subpath(output.manifest, parent=True),
    shell:
        "python -m dtr prepare-data --dataset {wildcards.dataset} --settings {params.settings:q}"
        " --out {params.folder:q} 2>&1 | tee {log:q}"
