"""A notebook in a file: open it in an editor that knows ``# %%`` cells, or run it: python docs/scripts/analyse_runs.py "runs/*"."""

# %% Open every run that was stored.
import sys

import jfeval

runs = jfeval.load_runs(*(sys.argv[1:] or ["runs/*"]))
print(runs)

# %% The numbers by which the benchmarks are quoted, best first. Runs that are not whole say so in `status`.
metrics = runs.metrics
headline = metrics[metrics["headline"]].sort_values("value", ascending=False)
print(headline[["benchmark", "edition", "protocol", "model", "seed", "value", "ci_low", "ci_high", "status"]].to_string(index=False))

# %% One column per task.
tasks = metrics[metrics["name"] == "task"].pivot_table(index=["model", "seed"], columns="task", values="value")
print(tasks.round(3).to_string())

# %% Which prompts are never drawn right? One row per picture or answer; `correct` is empty where a sample failed.
samples = runs.samples
by_prompt = samples.groupby("prompt")["correct"].agg(["mean", "size"]).sort_values("mean")
print(by_prompt.head(5).to_string())

# %% Why do they fail?
print(samples.loc[samples["correct"] == 0, "reason"].value_counts().head(5).to_string())

# %% The same table that the report shows, for a paper or a pull request.
for table in runs.leaderboard:
    print(table.to_markdown())
