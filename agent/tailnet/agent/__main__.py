"""``python -m tailnet.agent`` is ``tailnetd``."""

from tailnet.agent.main import main

if __name__ == "__main__":
    main()
