"""All routes.

Every route of :mod:`tailnet.agent.localapi.routes` has an entry; a test holds the two together.
"""

from tailnet.agent.localapi.contract.account import ACCOUNT
from tailnet.agent.localapi.contract.experiments import EXPERIMENTS
from tailnet.agent.localapi.contract.names import NAMES
from tailnet.agent.localapi.contract.network import NETWORK
from tailnet.agent.localapi.contract.operation import Routes
from tailnet.agent.localapi.contract.process import PROCESS

CONTRACT: Routes = {**NETWORK, **ACCOUNT, **NAMES, **PROCESS, **EXPERIMENTS}
