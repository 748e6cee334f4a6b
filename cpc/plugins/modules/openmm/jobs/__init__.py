"""The programs that jobs of `openmm` functions run.

They travel with the job: a worker needs a Python with OpenMM, no Copernicus.
"""
