"""The commands: each module parses its arguments; imports nothing heavy before they are parsed."""

COMMANDS = {
    "resume": "cifar_exp.cli.commands.resume",
    "reproduce": "cifar_exp.cli.commands.reproduce",
    "evaluate": "cifar_exp.cli.commands.evaluate",
    "predict": "cifar_exp.cli.commands.predict",
    "list": "cifar_exp.cli.commands.list",
    "compare": "cifar_exp.cli.commands.compare",
    "lr-find": "cifar_exp.cli.commands.lr_find",
    "report": "cifar_exp.cli.commands.report",
}
