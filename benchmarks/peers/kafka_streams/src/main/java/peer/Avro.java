package peer;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** Serdes of Avro datums behind the five bytes of the Confluent wire format; buffers are reused by thread. */
final class Avro {
    interface Write<T> {
        void to(T value, BinaryEncoder out) throws IOException;
    }

    interface Read<T> {
        T from(BinaryDecoder in) throws IOException;
    }

    private static final ThreadLocal<ByteArrayOutputStream> BYTES =
        ThreadLocal.withInitial(() -> new ByteArrayOutputStream(1024));
    private static final ThreadLocal<BinaryEncoder> ENCODER = new ThreadLocal<>();
    private static final ThreadLocal<BinaryDecoder> DECODER = new ThreadLocal<>();

    static <T> Serde<T> serde(int schemaId, Write<T> write, Read<T> read) {
        byte[] head = {0, 0, 0, 0, (byte) schemaId};
        Serializer<T> serializer = (topic, value) -> value == null ? null : bytes(head, value, write);
        Deserializer<T> deserializer = (topic, data) -> data == null ? null : value(data, head.length, read);
        return Serdes.serdeFrom(serializer, deserializer);
    }

    static <T> byte[] bytes(byte[] head, T value, Write<T> write) {
        try {
            ByteArrayOutputStream bytes = BYTES.get();
            bytes.reset();
            bytes.write(head);
            BinaryEncoder out = EncoderFactory.get().binaryEncoder(bytes, ENCODER.get());
            ENCODER.set(out);
            write.to(value, out);
            out.flush();
            return bytes.toByteArray();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static <T> T value(byte[] data, int start, Read<T> read) {
        try {
            BinaryDecoder in =
                DecoderFactory.get().binaryDecoder(data, start, data.length - start, DECODER.get());
            DECODER.set(in);
            return read.from(in);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    static BigInteger units(BinaryDecoder in) throws IOException {
        ByteBuffer bytes = in.readBytes(null);
        return new BigInteger(bytes.array(), 0, bytes.limit());
    }

    private Avro() {}
}
