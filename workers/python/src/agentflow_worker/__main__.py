"""`python -m agentflow_worker`."""

from agentflow_worker.cli import main

if __name__ == "__main__":
    main()
