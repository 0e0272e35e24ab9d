"""``bench check``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from bench.cli import options


@click.command("check", cls=options.Command, short_help="whether a method keeps the contract, on generated data")
@click.argument("method")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A setting of the method; see bench show.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Use these instead of a trial training.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@options.as_json()
def command(method: str, pairs: tuple[str, ...], weights: Path | None, device: str, as_json: bool) -> None:
    """Tell the author of METHOD whether it keeps the contract of bench.api.Method.

    It is trained for a few steps and tried on generated images: empty, of one cell and of 300, 8 and 16 bit, gray and
    colour, of odd sizes. Each line is a promise, kept (ok) or broken (FAIL), with what to do, or one that could not be
    looked at (-), with the reason. Exit code 5 if one is broken. What the method prints goes to stderr.

    \b
    bench check unet-bce
    bench check mine --set width=8 --json
    """
    from bench.api import MethodError
    from bench.engine.contract import CHECKS, check_method, trial_settings, unusable
    from bench.engine.standard_output import printing_to_stderr
    from bench.progress import say
    from bench.registry import find_method
    from bench.report.escape import visible

    findings = []
    with printing_to_stderr():  # as a stranger's module may, when it is imported
        entry = find_method(method)
    if entry.method.trial and weights is None:
        say(f"{entry.name} is tried small, with {trial_settings(entry)}; --set changes that")
    for finding in check_method(entry, settings=options.settings(pairs), weights=weights, device=device):
        findings.append(finding)
        if not as_json:
            mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.ok]
            said = finding.problem + (f" ({finding.hint})" if finding.hint else "")
            what = CHECKS[finding.check] if finding.ok else visible(said)
            options.tell(f"{mark}  {finding.check:<16}  {finding.seconds:5.1f} s  {what}")
    failed = [finding for finding in findings if finding.ok is False]
    if as_json:
        rows = [{**dataclasses.asdict(f), "promise": CHECKS[f.check]} for f in findings]
        options.emit({"method": entry.name, "ok": not failed, "checks": rows})
    missing = unusable(findings)
    if missing is not None:
        raise missing
    if failed:
        raise MethodError(
            f"{entry.name} breaks {len(failed)} of {len(findings)} promises: {', '.join(f.check for f in failed)}",
            "the lines above say what to do",
        )
