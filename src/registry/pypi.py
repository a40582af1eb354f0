# Runs pip in a folder of its own, and removes the folder when speclight is done with it or gone.
# Arguments: the folder, then pip's. Standard input is held open by speclight for as long as it needs the folder.
import sys

# Before Python 3.11 sys.path begins with the current folder, whatever PYTHONSAFEPATH says.
sys.path = [place for place in sys.path if place]

import os, runpy, shutil, threading, time, traceback

folder = sys.argv[1]


def clear():
    while os.read(0, 1):
        pass
    # Windows keeps a folder that is the current one of a process.
    os.chdir(os.path.dirname(folder))
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.02)
    os._exit(0)


watch = threading.Thread(target=clear)
watch.start()
sys.argv = ["pip"] + sys.argv[2:]
try:
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
    said = "0"
except SystemExit as end:
    said = str(end.code or 0)
except ImportError as error:
    said = "no pip" if error.name in ("pip", None) else "1"
    traceback.print_exc()
except BaseException:
    said = "1"
    traceback.print_exc()
sys.stderr.flush()
with open(os.path.join(folder, "said.new"), "w") as file:
    file.write(said)
os.replace(os.path.join(folder, "said.new"), os.path.join(folder, "said"))
watch.join()
