"""A `.proto` file from the descriptors that tritonclient carries, cut to what callers need.

Knows the parts of proto3 that KServe v2 uses (messages, maps, oneofs, services) and refuses others;
comments and the order of the original file are not in a descriptor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)
from tritonclient.grpc import service_pb2

SERVICE = "GRPCInferenceService"
METHODS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "ModelStreamInfer",
)
"""What a caller of `text_to_video` reaches; the gateway serves the same."""


def kserve() -> FileDescriptorProto:
    """KServe v2 with `METHODS` only and the messages that they reach."""
    whole = FileDescriptorProto()
    service_pb2.DESCRIPTOR.CopyToProto(whole)
    (service,) = (entry for entry in whole.service if entry.name == SERVICE)
    kept = ServiceDescriptorProto(name=SERVICE)
    kept.method.extend(method for method in service.method if method.name in METHODS)
    names = _reached(whole, (t for m in kept.method for t in (m.input_type, m.output_type)))
    return FileDescriptorProto(
        name=whole.name,
        package=whole.package,
        syntax=whole.syntax,
        message_type=[message for message in whole.message_type if message.name in names],
        service=[kept],
    )


def proto_text(file: FileDescriptorProto) -> str:
    """The source of `file`. Raises ValueError for what is not KServe's proto3."""
    if file.syntax != "proto3" or file.dependency or file.enum_type or file.extension:
        raise ValueError(f"{file.name} is more than messages and services of one proto3 file")
    parts = [[f'syntax = "{file.syntax}";'], [f"package {file.package};"]]
    parts += [_service(service) for service in file.service]
    parts += [_message(message, f".{file.package}.{message.name}") for message in file.message_type]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _service(service: ServiceDescriptorProto) -> list[str]:
    rpcs = []
    for method in service.method:
        asked = _stream(method.client_streaming) + _short(method.input_type)
        answered = _stream(method.server_streaming) + _short(method.output_type)
        rpcs.append(f"rpc {method.name}({asked}) returns ({answered});")
    return _block(f"service {service.name}", rpcs)


def _message(message: DescriptorProto, path: str) -> list[str]:
    if message.enum_type or message.extension or message.reserved_range:
        raise ValueError(f"the message {path} has parts that are not known here")
    entries = {f"{path}.{m.name}": m for m in message.nested_type if m.options.map_entry}
    lines: list[str] = []
    for nested in message.nested_type:
        if not nested.options.map_entry:
            lines += [*_message(nested, f"{path}.{nested.name}"), ""]
    choices: dict[int, list[str]] = {}
    for field in message.field:
        line = f"{_type(field, entries)} {field.name} = {field.number};"
        if field.HasField("oneof_index"):
            choices.setdefault(field.oneof_index, []).append(line)
        else:
            lines.append(line)
    for index, fields in choices.items():
        lines += _block(f"oneof {message.oneof_decl[index].name}", fields)
    return _block(f"message {message.name}", lines)


def _type(field: FieldDescriptorProto, entries: dict[str, DescriptorProto]) -> str:
    if field.type_name in entries:
        key, value = entries[field.type_name].field
        return f"map<{_type(key, {})}, {_type(value, {})}>"
    repeated = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        return repeated + _short(field.type_name)
    name: str = FieldDescriptorProto.Type.Name(field.type)
    return repeated + name.removeprefix("TYPE_").lower()


def _block(head: str, lines: Iterable[str]) -> list[str]:
    inner = [f"  {line}" if line else "" for line in lines]
    return [f"{head} {{", *inner, "}"] if inner else [f"{head} {{}}"]


def _short(type_name: str) -> str:
    """`.inference.A.B` as `A.B`: every message is of the one package."""
    return type_name.split(".", 2)[2]


def _stream(streaming: bool) -> str:
    return "stream " if streaming else ""


def _reached(file: FileDescriptorProto, type_names: Iterable[str]) -> set[str]:
    """The top-level messages that `type_names` are, or lead to."""
    messages = {message.name: message for message in file.message_type}
    found: set[str] = set()
    waiting = list(type_names)
    while waiting:
        name = _short(waiting.pop()).partition(".")[0]
        if name not in found:
            found.add(name)
            waiting += _mentioned(messages[name])
    return found


def _mentioned(message: DescriptorProto) -> Iterator[str]:
    yield from (field.type_name for field in message.field if field.type_name)
    for nested in message.nested_type:
        yield from _mentioned(nested)
