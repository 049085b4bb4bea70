import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;

import org.apache.flink.avro.shaded.org.apache.avro.Schema;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericDatumWriter;
import org.apache.flink.avro.shaded.org.apache.avro.generic.GenericRecord;
import org.apache.flink.avro.shaded.org.apache.avro.io.BinaryEncoder;
import org.apache.flink.avro.shaded.org.apache.avro.io.EncoderFactory;
import org.apache.flink.formats.avro.registry.confluent.ConfluentRegistryAvroDeserializationSchema;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads topics from their beginnings to their ends, each into the schema of a file.
 *
 * <p>Arguments: bootstrap servers, the registry's URL, then pairs of a topic and a schema file. Prints a line for
 * each record: topic, the file's name, partition, offset, and in hex the record as it is written with that schema.
 */
class ReadTopics {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", arguments[0],
                "isolation.level", "read_committed",
                "fetch.max.wait.ms", 20);
        var bytes = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            for (int at = 2; at < arguments.length; at += 2) {
                Path file = Path.of(arguments[at + 1]);
                Schema schema = new Schema.Parser().parse(Files.readString(file));
                var deserializer = ConfluentRegistryAvroDeserializationSchema.forGeneric(schema, arguments[1]);
                var writer = new GenericDatumWriter<GenericRecord>(schema);
                for (ConsumerRecord<byte[], byte[]> record : records(consumer, arguments[at])) {
                    GenericRecord value = deserializer.deserialize(record.value());
                    var datum = new ByteArrayOutputStream();
                    BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(datum, null);
                    writer.write(value, encoder);
                    encoder.flush();
                    System.out.println(String.join(
                            " ",
                            record.topic(),
                            file.getFileName().toString(),
                            String.valueOf(record.partition()),
                            String.valueOf(record.offset()),
                            HexFormat.of().formatHex(datum.toByteArray())));
                }
            }
        }
    }

    static List<ConsumerRecord<byte[], byte[]>> records(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(partition -> new TopicPartition(topic, partition.partition()))
                .toList();
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        var found = new ArrayList<ConsumerRecord<byte[], byte[]>>();
        while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
            consumer.poll(Duration.ofMillis(100)).forEach(found::add);
        }
        return found;
    }
}
