"""``python -m belljar`` is the command ``belljar``."""

import sys

from belljar.cli import main

sys.exit(main())
