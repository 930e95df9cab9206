"""One run = one folder; what is written there is whole or absent."""

from fenghuo.rundir.atomic import disk_error as disk_error
from fenghuo.rundir.atomic import file_atomic as file_atomic
from fenghuo.rundir.atomic import folder_atomic as folder_atomic
from fenghuo.rundir.atomic import sha256_of as sha256_of
from fenghuo.rundir.atomic import write_atomic as write_atomic
from fenghuo.rundir.atomic import write_json as write_json
from fenghuo.rundir.place import refuse_filled as refuse_filled
from fenghuo.rundir.run import RunDir as RunDir
