package peer;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeParseException;
import java.time.temporal.ChronoUnit;
import java.time.Instant;
import java.util.zip.CRC32C;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;

/** A bet or a win: the fields of the contract {@code game-transaction} that the yardstick job fills. */
final class Transaction {
    static final int SCALE = 18;
    private static final byte[] ZERO = {0};
    static final BigInteger LIMIT = BigInteger.TEN.pow(38);

    String tenant;
    String batchId;
    long receivedAt;
    int position;
    String eventId;
    long occurredAt;
    String playerId;
    String roundId;
    String gameId;
    boolean win;
    BigInteger amount;
    boolean bonus;
    String currency;

    /** Reads the object that the parser has just entered; null if it is not valid. */
    static Transaction read(JsonParser json) throws IOException {
        var it = new Transaction();
        String event = null;
        boolean valid = true;
        boolean hasWin = false;
        boolean hasBonus = false;
        while (json.nextToken() != JsonToken.END_OBJECT) {
            String name = json.currentName();
            JsonToken token = json.nextToken();
            if (name.equals("event")) {
                event = token == JsonToken.VALUE_STRING ? json.getText() : null;
            } else if (!name.equals("data") || token != JsonToken.START_OBJECT) {
                json.skipChildren();
            } else {
                while (json.nextToken() != JsonToken.END_OBJECT) {
                    String field = json.currentName();
                    JsonToken value = json.nextToken();
                    switch (field) {
                        case "unique_id" -> it.eventId = text(json, value);
                        case "timestamp" -> valid &= it.time(text(json, value));
                        case "player_id" -> it.playerId = text(json, value);
                        case "game_id" -> it.gameId = text(json, value);
                        case "round_id" -> it.roundId = text(json, value);
                        case "currency" -> it.currency = text(json, value);
                        case "amount" -> it.amount = amount(json, value);
                        case "is_win" -> {
                            hasWin = value.isBoolean();
                            it.win = value == JsonToken.VALUE_TRUE;
                        }
                        case "is_bonus" -> {
                            hasBonus = value.isBoolean();
                            it.bonus = value == JsonToken.VALUE_TRUE;
                        }
                        default -> json.skipChildren();
                    }
                }
            }
        }
        valid &= "gameround".equals(event) && hasWin && hasBonus && it.amount != null && it.occurredAt != 0;
        valid &= it.eventId != null && it.playerId != null && it.gameId != null && it.roundId != null;
        return valid && isCurrency(it.currency) ? it : null;
    }

    private static String text(JsonParser json, JsonToken token) throws IOException {
        if (token != JsonToken.VALUE_STRING) {
            json.skipChildren();
            return null;
        }
        String text = json.getText();
        return text.isEmpty() || text.length() > 256 ? null : text;
    }

    private static BigInteger amount(JsonParser json, JsonToken token) throws IOException {
        if (!token.isNumeric()) {
            json.skipChildren();
            return null;
        }
        BigDecimal value = json.getDecimalValue();
        if (value.signum() < 0 || value.precision() - value.scale() > 20 || value.scale() > SCALE) {
            return null;
        }
        return value.setScale(SCALE).unscaledValue();
    }

    private static boolean isCurrency(String text) {
        if (text == null || text.length() != 3) {
            return false;
        }
        for (int i = 0; i < 3; i++) {
            if (text.charAt(i) < 'A' || text.charAt(i) > 'Z') {
                return false;
            }
        }
        return true;
    }

    private boolean time(String text) {
        if (text == null) {
            return false;
        }
        try {
            Instant instant = text.endsWith("Z") || text.indexOf('+', 10) > 0
                ? OffsetDateTime.parse(text).toInstant()
                : LocalDateTime.parse(text).toInstant(ZoneOffset.UTC);
            occurredAt = ChronoUnit.MICROS.between(Instant.EPOCH, instant);
            return true;
        } catch (DateTimeParseException error) {
            return false;
        }
    }

    void write(BinaryEncoder out) throws IOException {
        out.writeString(tenant);
        out.writeEnum(0);
        out.writeString(batchId);
        out.writeLong(receivedAt);
        out.writeBoolean(true);
        out.writeInt(position);
        out.writeString("gameround");
        out.writeString(eventId);
        out.writeLong(occurredAt);
        out.writeString(playerId);
        out.writeString(roundId);
        out.writeString(gameId);
        out.writeEnum(win ? 1 : 0);
        byte[] units = amount.toByteArray();
        out.writeBytes(units);
        out.writeBytes(bonus ? units : ZERO);
        out.writeString(currency);
        out.writeIndex(0);
        out.writeIndex(0);
    }

    /** CRC32C and length of all that does not depend on the delivery, of a frame that {@link #write} made. */
    static long contentChecksum(byte[] frame) {
        int at = afterBytes(frame, Avro.FRAME_BYTES); // tenant
        at = afterBytes(frame, at + 1); // source, batch id
        at = afterNumber(frame, at); // received at
        at = afterNumber(frame, at + 1); // whether there is a position, position
        var checksum = new CRC32C();
        checksum.update(frame, at, frame.length - at);
        return checksum.getValue() << 32 | (frame.length - at);
    }

    private static int afterNumber(byte[] frame, int at) {
        while (frame[at] < 0) {
            at++;
        }
        return at + 1;
    }

    private static int afterBytes(byte[] frame, int at) {
        int length = 0;
        for (int shift = 0;; shift += 7) {
            byte next = frame[at++];
            length |= (next & 0x7f) << shift;
            if (next >= 0) {
                return at + (length >>> 1);
            }
        }
    }

    static Transaction read(BinaryDecoder in) throws IOException {
        var it = new Transaction();
        it.tenant = in.readString();
        in.readEnum();
        it.batchId = in.readString();
        it.receivedAt = in.readLong();
        in.readBoolean();
        it.position = in.readInt();
        in.skipString();
        it.eventId = in.readString();
        it.occurredAt = in.readLong();
        it.playerId = in.readString();
        it.roundId = in.readString();
        it.gameId = in.readString();
        it.win = in.readEnum() == 1;
        it.amount = Avro.units(in);
        it.bonus = Avro.units(in).signum() > 0;
        it.currency = in.readString();
        return it;
    }
}
