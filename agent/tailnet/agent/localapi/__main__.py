"""``python -m tailnet.agent.localapi``: the description of all routes, as it is published."""

import json
import sys

from tailnet.agent.localapi.routes import published

sys.stdout.write(json.dumps(published(), indent=1, ensure_ascii=False, sort_keys=True) + "\n")
