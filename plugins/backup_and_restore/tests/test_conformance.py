"""The promises that every callback keeps."""

from hookloop.testing import CallbackSuite


class TestBackupAndRestore(CallbackSuite):
    name = "backup_and_restore"
    settings = {"backup_dir": "{tmp}/backup"}
    refused = ({"save_freq": 0}, {"keep": 0})
