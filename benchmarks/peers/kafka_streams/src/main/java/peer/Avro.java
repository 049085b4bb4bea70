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

/** Avro datums behind the five bytes of the Confluent wire format; buffers are reused by thread. */
final class Avro {
    interface Write<T> {
        void to(T value, BinaryEncoder out) throws IOException;
    }

    interface Read<T> {
        T from(BinaryDecoder in) throws IOException;
    }

    static final int FRAME_BYTES = 5;
    private static final byte[] HEAD = {0, 0, 0, 0};
    private static final ThreadLocal<ByteArrayOutputStream> BYTES =
        ThreadLocal.withInitial(() -> new ByteArrayOutputStream(1024));
    private static final ThreadLocal<BinaryEncoder> ENCODER = new ThreadLocal<>();
    private static final ThreadLocal<BinaryDecoder> DECODER = new ThreadLocal<>();

    static <T> byte[] frame(byte schemaId, T value, Write<T> write) {
        try {
            ByteArrayOutputStream bytes = BYTES.get();
            bytes.reset();
            bytes.write(HEAD);
            bytes.write(schemaId);
            BinaryEncoder out = EncoderFactory.get().binaryEncoder(bytes, ENCODER.get());
            ENCODER.set(out);
            write.to(value, out);
            out.flush();
            return bytes.toByteArray();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    static <T> T value(byte[] frame, Read<T> read) {
        try {
            BinaryDecoder in = DecoderFactory.get()
                .binaryDecoder(frame, FRAME_BYTES, frame.length - FRAME_BYTES, DECODER.get());
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
