"""Write assets/vendor/pyodide.js, the Python that runs in the playground, from the npm package of that version (needs npm).

The files are packed with gzip and base64 into one script, since a page that was opened from a disk may load scripts and no other files.
usage: python tools/vendor_python.py
"""

import gzip
import json
import subprocess
import tarfile
import tempfile
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

VERSION = "314.0.7"
SCRIPT = Path(__file__).parent.parent / "assets/vendor/pyodide.js"
DIGESTS = {  # of the files as npm has them
    "pyodide.mjs": "6f1d60f7bf529beb300f0f47983c921d3982363640ba20af0e38efdddbc66109",
    "pyodide.asm.mjs": "f7cdc8ece80678ceb712f8e65ebe6d3a83203a180c399865f49612a051693635",
    "pyodide.asm.wasm": "cc36e3cab04fdfc9a63ff13eb52eae2b911bf46c025cc7b281f394bd3de1d5e6",
    "python_stdlib.zip": "fa1957e5777068fc4f7437f96d860ae2fbe9c19732ba06c84e004ec16dd7dd7a",
}
HEAD = f"// Pyodide {VERSION} (MPL-2.0) with CPython and its library (PSF-2.0): licenses/pyodide.txt. Written by tools/vendor_python.py.\n"


def package(version):
    """The files of the package, by name."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", f"pyodide@{version}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(folder).glob("*.tgz")
        with tarfile.open(path) as archive:
            return {name: archive.extractfile(f"package/{name}").read() for name in [*DIGESTS, "pyodide-lock.json"]}


def script(files):
    """One script that defines PYODIDE: the version, the files, and a lock without further packages."""
    packed = {name: b64encode(gzip.compress(files[name], 9, mtime=0)).decode() for name in DIGESTS}
    lock = {"info": json.loads(files["pyodide-lock.json"])["info"], "packages": {}}
    return f"{HEAD}globalThis.PYODIDE = {json.dumps({'version': VERSION, 'lock': lock, 'files': packed})};\n"


if __name__ == "__main__":
    files = package(VERSION)
    for name, digest in DIGESTS.items():
        if (found := sha256(files[name]).hexdigest()) != digest:
            raise SystemExit(f"{name} is not the file that was tried: its SHA-256 is {found}. Try it, and write that into DIGESTS.")
    SCRIPT.write_text(script(files), encoding="utf-8")
    print(f"{SCRIPT.name}: {SCRIPT.stat().st_size / 1e6:.1f} MB")
