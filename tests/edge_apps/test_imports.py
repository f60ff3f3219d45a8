"""``edge_apps`` stands on its own: neither torch nor the upper floors are imported, even where they are installed."""

import subprocess
import sys

CODE = """
import importlib, importlib.abc, pkgutil, sys

BLOCKED = {"torch", "torchao", "executorch", "coremltools", "litert_torch", "scipy", "sklearn", "psutil",
           "cryptography", "pipeline", "calibration"}

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not for a device", name=name)

sys.meta_path.insert(0, Blocker())
import edge_apps
names = [module.name for module in pkgutil.walk_packages(edge_apps.__path__, "edge_apps.")]
for name in names:
    importlib.import_module(name)
from edge_apps.runtime.runner import known_suffixes
known_suffixes()
print(" ".join(names))
"""


def test_every_module_is_imported_without_torch_and_the_upper_floors() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    names = set(result.stdout.split())
    assert {
        "edge_apps.images",
        "edge_apps.camera.commands.main",
        "edge_apps.camera.run",
        "edge_apps.runtime.runner",
    } <= names


def test_the_help_of_edge_camera_needs_neither_opencv_nor_numpy() -> None:
    code = (
        "import sys\n"
        "from edge_apps.camera.commands.main import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'cv2', 'numpy', 'sqlite3'} & set(sys.modules), sorted(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
