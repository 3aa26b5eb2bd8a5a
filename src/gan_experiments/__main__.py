"""`gan-experiments VERB ...` and `python -m gan_experiments VERB ...`; without a verb: run."""

from gan_experiments.launch.entry import main

if __name__ == "__main__":
    main()
