"""Produces records as a service would that is written in Python: with Confluent's own client and serializers.

    produce.py BROKERS REGISTRY

Each line of standard input is one record, as JSON: {"topic", "format", "schema", "value", "key"?, "references"?}. For Avro and JSON Schema `schema` is
the schema's text and `references` a list of [name, text]; for Protobuf it names one of the messages below. With `key_schema` the key is in Avro.
With `times` it is so many records, whose `paymentId` ends with their number, and whose keys are that number. Each line is answered by one with the
partition and offset of the last record, or by `error: ...`.
"""

import datetime
import decimal
import json
import sys
import uuid

from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, timestamp_pb2

Field = descriptor_pb2.FieldDescriptorProto


def field(name, number, kind, type_name=None, label=Field.LABEL_OPTIONAL):
    return Field(name=name, number=number, type=kind, type_name=type_name, label=label)


def messages(prefix="", newer=()):
    """The message types: a file of events that imports one of people; a newer one has further fields."""
    pool = descriptor_pool.DescriptorPool()
    timestamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    people = descriptor_pb2.FileDescriptorProto(name="acme/people.proto", package="acme", syntax="proto3")
    people.message_type.add(name="Person", field=[field("name", 1, Field.TYPE_STRING)])
    events = descriptor_pb2.FileDescriptorProto(name="acme/events.proto", package="acme", syntax="proto3")
    events.dependency.extend(["acme/people.proto", "google/protobuf/timestamp.proto"])
    events.message_type.add(name="Other", field=[field("text", 1, Field.TYPE_STRING)])
    due = events.message_type.add(name="Due")
    inner = due.nested_type.add(name="Paid")
    for message in (due, inner):
        message.field.extend(
            [
                field("type", 1, Field.TYPE_STRING),
                field("user_id", 2, Field.TYPE_STRING),
                field("payment_id", 3, Field.TYPE_STRING),
                field("amount", 4, Field.TYPE_STRING),
                field("due_date", 5, Field.TYPE_STRING),
                field("person", 6, Field.TYPE_MESSAGE, ".acme.Person"),
                field("at", 7, Field.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
                field("cents", 8, Field.TYPE_INT64),
                *newer,
            ]
        )
    mapped = events.message_type.add(name="Mapped")
    entry = mapped.nested_type.add(name="LabelsEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.extend([field("key", 1, Field.TYPE_STRING), field("value", 2, Field.TYPE_STRING)])
    mapped.field.append(field("labels", 1, Field.TYPE_MESSAGE, ".acme.Mapped.LabelsEntry", Field.LABEL_REPEATED))
    mapped.nested_type.add(name="Paid").field.extend(inner.field)
    mapped.nested_type.add(name="Unpaid").field.append(field("why", 1, Field.TYPE_STRING))
    for file in (timestamp, people, events):
        pool.Add(file)
    names = ["acme.Other", "acme.Due", "acme.Due.Paid", "acme.Mapped", "acme.Mapped.Paid"]
    return {prefix + name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


MESSAGES = messages() | messages("newer:", [field("note", 9, Field.TYPE_STRING)])


def revived(value):
    """What JSON has no type for is written as {"$decimal": "1.20"}, {"$date": ...}, {"$time": ...}, {"$uuid": ...}, {"$bytes": hex}."""
    if isinstance(value, list):
        return [revived(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, text),) = value.items()
        makers = {
            "$decimal": decimal.Decimal,
            "$date": datetime.date.fromisoformat,
            "$time": datetime.datetime.fromisoformat,
            "$uuid": uuid.UUID,
            "$bytes": bytes.fromhex,
        }
        if kind in makers:
            return makers[kind](text)
    return {key: revived(inner) for key, inner in value.items()}


class Records:
    def __init__(self, brokers, registry):
        self.producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        self.registry = SchemaRegistryClient({"url": registry})
        self.serializers = {}

    def serializer(self, record):
        key = json.dumps([record["topic"], record["format"], record["schema"], record.get("references")])
        if key not in self.serializers:
            self.serializers[key] = self.made(record)
        return self.serializers[key]

    def made(self, record):
        kind = record["format"]
        if kind == "protobuf":
            return ProtobufSerializer(MESSAGES[record["schema"]], self.registry, {"use.deprecated.format": False})
        name = {"avro": "AVRO", "json-schema": "JSON"}[kind]
        references = []
        for reference, text in record.get("references", []):
            self.registry.register_schema(reference, Schema(text, name))
            references.append(SchemaReference(reference, reference, self.registry.get_latest_version(reference).version))
        schema = Schema(record["schema"], name, references)
        if kind == "avro":
            return AvroSerializer(self.registry, schema)
        return JSONSerializer(schema, self.registry)

    def value(self, record):
        value = revived(record["value"])
        if record["format"] == "protobuf":
            return json_format.ParseDict(value, MESSAGES[record["schema"]]())
        return value

    def key(self, record):
        if "key_schema" not in record:
            return record.get("key")
        name = json.dumps([record["topic"], record["key_schema"]])
        if name not in self.serializers:
            self.serializers[name] = AvroSerializer(self.registry, Schema(record["key_schema"], "AVRO"))
        return self.serializers[name](revived(record["key"]), SerializationContext(record["topic"], MessageField.KEY))

    def numbered(self, record):
        """The records that one line stands for."""
        for number in range(record.get("times", 0)):
            value = dict(record["value"], paymentId=f"{record['value']['paymentId']}{number}")
            yield dict(record, value=value, key=str(number))
        if "times" not in record:
            yield record

    def produce(self, record):
        context = SerializationContext(record["topic"], MessageField.VALUE)
        where = []
        for one in self.numbered(record):
            value = self.serializer(one)(self.value(one), context)
            self.producer.produce(one["topic"], value, self.key(one), on_delivery=lambda error, message: where.append((error, message)))
            self.producer.poll(0)
        self.producer.flush()
        for error, _ in where:
            if error is not None:
                raise RuntimeError(error)
        message = where[-1][1]
        return f"{message.partition()} {message.offset()}"


def main():
    records = Records(*sys.argv[1:3])
    for line in sys.stdin:
        try:
            answer = records.produce(json.loads(line))
        except Exception as error:  # Told to the test, which knows what it wanted.
            answer = f"error: {type(error).__name__}: {error}".replace("\n", " ")
        print(answer, flush=True)


main()
