# The benchmark as a table of contents: one file of rules per stage, in the order of the data.
from snakemake.utils import min_version

min_version("9.20")

# Not loaded beside another scale: nested settings of two scales would mix. `--config scale=mine`
# alone renames the default one.
if "scale" not in config or not workflow.configfiles:

    configfile: "workflow/config/digits.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/assets.smk"
include: "workflow/rules/latents.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/metrics.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


rule trained:
    input:
        targets.trained_records(SCALE),


rule all:
    default_target: True
    input:
        rules.page.input,
        rules.page.output,


onerror:
    shell("python -m dtr report --settings {SETTINGS:q}")  # the page of what there is
