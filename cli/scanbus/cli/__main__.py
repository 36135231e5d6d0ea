"""``python -m scanbus.cli``: the same as the command ``scanbus``."""

import sys

from scanbus.cli import main

sys.exit(main())
