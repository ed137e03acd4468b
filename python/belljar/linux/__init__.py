"""Linux in a guest, looked at from outside: ``vm.linux`` and ``dump.linux``, without a profile.

>>> linux = vm.linux  # doctest: +SKIP
>>> linux.tasks()  # doctest: +SKIP
"""

from belljar.linux.calls import Parameter, Prototype, Prototypes, Syscall, Syscalls
from belljar.linux.files import File, Files
from belljar.linux.linux import Linux
from belljar.linux.log import Message, Messages
from belljar.linux.maps import Map, Maps
from belljar.linux.modules import Module, Modules
from belljar.linux.mounts import Mount, Mounts
from belljar.linux.sockets import Socket, Sockets
from belljar.linux.table import Partial, Table
from belljar.linux.tasks import Task, Tasks
from belljar.linux.tracing import Call, SyscallTrace
from belljar.linux.version import Version

__all__ = [
    "Call",
    "File",
    "Files",
    "Linux",
    "Map",
    "Maps",
    "Message",
    "Messages",
    "Module",
    "Modules",
    "Mount",
    "Mounts",
    "Parameter",
    "Partial",
    "Prototype",
    "Prototypes",
    "Socket",
    "Sockets",
    "Syscall",
    "SyscallTrace",
    "Syscalls",
    "Table",
    "Task",
    "Tasks",
    "Version",
]
