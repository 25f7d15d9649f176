"""The `unsee` that the documents' commands run in tests: the real one, with other defaults.

What a command line leaves out is taken from the JSON file that `UNSEE_DEFAULTS` names, by click's
own `default_map`: free ports, little work. What a document does say is not changed.
"""

import json
import os
import sys
from pathlib import Path

from unsee.cli import main

if __name__ == "__main__":
    defaults = json.loads(Path(os.environ["UNSEE_DEFAULTS"]).read_text())
    main.unsee.context_settings["default_map"] = defaults
    sys.exit(main.run(sys.argv[1:]))
