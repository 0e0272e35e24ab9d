"""Every benchmark, one after the other: ``make bench``."""

import subprocess
import sys
from pathlib import Path

failed = []
for script in sorted(Path(__file__).parent.glob("[!_]*.py")):
    print(f"== {script.stem}", flush=True)
    if subprocess.run([sys.executable, "-m", f"benchmarks.{script.stem}"], check=False).returncode:
        failed.append(script.stem)
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
