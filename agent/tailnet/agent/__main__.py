"""``python -m tailnet.agent`` is ``tailnetd``."""

from tailnet.agent.start import main

if __name__ == "__main__":
    main()
