"""``runestone console``: the commands of ``ctl``, typed one after the other, with history, completion and a look at the node."""
