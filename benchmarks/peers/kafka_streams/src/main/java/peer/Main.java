package peer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.apache.kafka.streams.state.Stores;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.BloomFilter;
import org.rocksdb.Cache;
import org.rocksdb.LRUCache;
import org.rocksdb.Options;

/** The yardstick job: validate, canonical Avro, by tenant and player, each event once, rounds. */
public final class Main {
    /** The ids that the line's contracts have without a registry. */
    private static final byte TRANSACTION = 1;
    private static final byte ROUND = 8;

    /** Bodies of many items in, the Avro frame of each valid transaction out. */
    static final class Parse implements Processor<byte[], byte[], String, byte[]> {
        private final JsonFactory json =
            JsonFactory.builder().enable(StreamReadFeature.USE_FAST_BIG_NUMBER_PARSER).build();
        private ProcessorContext<String, byte[]> context;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
        }

        @Override
        public void process(Record<byte[], byte[]> batch) {
            Headers headers = batch.headers();
            String tenant = text(headers, "tenant");
            String batchId = text(headers, "batch-id");
            long receivedAt = Long.parseLong(text(headers, "received-at"));
            try (JsonParser items = json.createParser(batch.value())) {
                if (items.nextToken() != JsonToken.START_ARRAY) {
                    return;
                }
                for (int position = 0; items.nextToken() == JsonToken.START_OBJECT; position++) {
                    Transaction it = Transaction.read(items);
                    if (it == null) {
                        continue;
                    }
                    it.tenant = tenant;
                    it.batchId = batchId;
                    it.receivedAt = receivedAt;
                    it.position = position;
                    byte[] frame = Avro.frame(TRANSACTION, it, Transaction::write);
                    context.forward(new Record<>(tenant + "|" + it.playerId, frame, batch.timestamp()));
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        private static String text(Headers headers, String name) {
            return new String(headers.lastHeader(name).value(), StandardCharsets.UTF_8);
        }
    }

    /** Lets each id pass once, as the frame that came, and folds what passes into its round. */
    static final class Once implements Processor<String, byte[], String, byte[]> {
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, Long> ids;
        private KeyValueStore<String, byte[]> rounds;

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            this.ids = context.getStateStore("ids");
            this.rounds = context.getStateStore("rounds");
        }

        @Override
        public void process(Record<String, byte[]> record) {
            byte[] frame = record.value();
            Transaction event = Avro.value(frame, Transaction::read);
            String id = event.tenant + "|" + event.eventId;
            if (ids.get(id) != null) {
                return; // a duplicate or, where the checksum differs, a conflict
            }
            String key = record.key() + "|" + event.roundId;
            byte[] old = rounds.get(key);
            Round round = old == null ? Round.openedBy(event) : Avro.value(old, Round::read);
            if (!round.takes(event)) {
                return;
            }
            round.fold(event);
            byte[] folded = Avro.frame(ROUND, round, Round::write);
            ids.put(id, Transaction.contentChecksum(frame));
            rounds.put(key, folded);
            context.forward(new Record<>(record.key(), frame, record.timestamp()), "canonical");
            context.forward(new Record<>(key, folded, record.timestamp()), "rounds");
        }
    }

    /** One block cache for all stores, Bloom filters, larger memtables. */
    public static final class Rocks implements RocksDBConfigSetter {
        private static final Cache CACHE = new LRUCache(64L << 20);

        @Override
        public void setConfig(String store, Options options, Map<String, Object> configs) {
            var table = (BlockBasedTableConfig) options.tableFormatConfig();
            table.setBlockCache(CACHE);
            table.setFilterPolicy(new BloomFilter(10, false));
            table.setCacheIndexAndFilterBlocks(true);
            options.setTableFormatConfig(table);
            options.setWriteBufferSize(32L << 20);
        }

        @Override
        public void close(String store, Options options) {}
    }

    static Topology topology(String prefix) {
        var strings = Serdes.String();
        var bytes = Serdes.ByteArray();
        var topology = new Topology();
        topology.addSource("raw", bytes.deserializer(), bytes.deserializer(), prefix + "raw.batches");
        topology.addProcessor("parse", Parse::new, "raw");
        topology.addSink("to-player", prefix + "peer.by-player", strings.serializer(),
            bytes.serializer(), "parse");
        topology.addSource("by-player", strings.deserializer(), bytes.deserializer(),
            prefix + "peer.by-player");
        topology.addProcessor("once", Once::new, "by-player");
        topology.addStateStore(Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("ids"), strings, Serdes.Long()), "once");
        topology.addStateStore(Stores.keyValueStoreBuilder(
            Stores.persistentKeyValueStore("rounds"), strings, bytes), "once");
        topology.addSink("canonical", prefix + "canonical.game-transactions", strings.serializer(),
            bytes.serializer(), "once");
        topology.addSink("rounds", prefix + "rounds", strings.serializer(), bytes.serializer(), "once");
        return topology;
    }

    public static void main(String[] arguments) throws InterruptedException {
        String bootstrap = arguments[0];
        String prefix = arguments[1];
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "peer-kafka-streams");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[2]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 500);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
        settings.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Rocks.class);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.METRICS_RECORDING_LEVEL_CONFIG, "INFO");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 262_144);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        var streams = new KafkaStreams(topology(prefix), settings);
        var ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            ended.countDown();
        }));
        streams.start();
        ended.await();
    }

    private Main() {}
}
