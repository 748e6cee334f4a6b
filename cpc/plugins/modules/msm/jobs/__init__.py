"""The programs that jobs of `msm` functions run.

They travel with the job: a worker needs a Python with deeptime, no Copernicus.
"""
