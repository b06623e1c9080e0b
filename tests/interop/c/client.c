/* A kvbus client in C, written from kvbus/wire/PROTOCOL.md alone: one ZeroMQ socket and one CBOR library.
 *
 * It speaks the tests' line language (tests/interop/foreign_client.py).
 * Usage: client ENDPOINT dealer|framed-dealer|req
 * Build: cc -std=c11 -Wall -Wextra -Werror client.c $(pkg-config --cflags --libs libzmq libcbor)
 */
#define _POSIX_C_SOURCE 200809L

#include <cbor.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { REPLY_TIMEOUT_MS = 15000, MAX_OPEN = 16384, ID_BYTES = 8, LONGEST_LIST = 4096 };

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* --- a line becomes a request ---------------------------------------------------------------------------------- */

enum type { NUMBER, BYTES, LIST, TEXT };

static enum type type_of(const char *field)
{
    static const struct {
        const char *field;
        enum type type;
    } types[] = {
        {"key", BYTES}, {"value", BYTES}, {"ctx", BYTES}, {"prefix", BYTES}, {"cursor", BYTES},
        {"keys", LIST}, {"values", LIST}, {"ctxs", LIST}, {"ks", TEXT},      {"cl", TEXT},      {"client", TEXT},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].field, field) == 0)
            return types[i].type;
    return NUMBER;
}

static unsigned hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return (unsigned)(digit - '0');
    if (digit >= 'a' && digit <= 'f')
        return (unsigned)(digit - 'a' + 10);
    die("'%c' is no lower-case hexadecimal digit", digit);
}

/* Returns NULL for text that names none of the four. */
static cbor_item_t *constant(const char *text)
{
    if (strcmp(text, "null") == 0)
        return cbor_new_null();
    if (strcmp(text, "undefined") == 0)
        return cbor_new_undef();
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return cbor_build_bool(*text == 't');
    return NULL;
}

static cbor_item_t *bytes(const char *text)
{
    cbor_item_t *item = constant(text);
    if (item != NULL)
        return item;
    bool tagged = strncmp(text, "64:", 3) == 0;
    const char *hex = tagged ? text + 3 : text;
    size_t size = strlen(hex) / 2;
    unsigned char *data = malloc(size + 1);
    if (data == NULL)
        die("out of memory");
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    item = cbor_build_bytestring(data, size);
    free(data);
    return tagged ? cbor_build_tag(64, cbor_move(item)) : item;
}

/* Takes the text apart. */
static cbor_item_t *list(char *text)
{
    cbor_item_t *items[LONGEST_LIST];
    size_t size = 0;
    for (char *comma; *text != '\0' || size > 0; text = comma) {
        comma = strchr(text, ',');
        if (comma != NULL)
            *comma++ = '\0';
        if (size == LONGEST_LIST)
            die("a list of more than %d items", LONGEST_LIST);
        items[size++] = bytes(text);
        if (comma == NULL)
            break;
    }
    cbor_item_t *array = cbor_new_definite_array(size);
    for (size_t i = 0; i < size; i++)
        if (!cbor_array_push(array, cbor_move(items[i])))
            die("no room for an array's item");
    return array;
}

static cbor_item_t *number(const char *text)
{
    return strchr(text, '.') ? cbor_build_float8(strtod(text, NULL)) : cbor_build_uint64(strtoull(text, NULL, 10));
}

static cbor_item_t *field(const char *name, char *text)
{
    enum type type = type_of(name);
    cbor_item_t *item = constant(text);
    if (item != NULL)
        return item;
    if (type == NUMBER)
        return number(text);
    return type == BYTES ? bytes(text) : type == LIST ? list(text) : cbor_build_string(text);
}

static void add(cbor_item_t *map, const char *name, cbor_item_t *value)
{
    struct cbor_pair pair = {.key = cbor_move(cbor_build_string(name)), .value = cbor_move(value)};
    if (!cbor_map_add(map, pair))
        die("no room for the field %s", name);
}

/* Takes the line apart. The id is the request's number: eight bytes, where the other client has an integer. */
static cbor_item_t *request(uint64_t id, char *line)
{
    size_t fields = 2;
    for (const char *space = line; (space = strchr(space, ' ')) != NULL; space++)
        fields++;
    unsigned char id_bytes[ID_BYTES];
    for (int i = 0; i < ID_BYTES; i++)
        id_bytes[i] = (unsigned char)(id >> 8 * i);
    cbor_item_t *map = cbor_new_definite_map(fields);
    char *rest;
    add(map, "id", cbor_build_bytestring(id_bytes, ID_BYTES));
    add(map, "op", cbor_build_string(strtok_r(line, " ", &rest)));
    for (char *name; (name = strtok_r(NULL, " ", &rest)) != NULL;) {
        char *equals = strchr(name, '=');
        if (equals == NULL)
            die("%s has no value", name);
        *equals = '\0';
        add(map, name, field(name, equals + 1));
    }
    return map;
}

/* --- a reply becomes a line of JSON ---------------------------------------------------------------------------- */

static void print_item(FILE *out, const cbor_item_t *item);

static void print_text(FILE *out, const cbor_item_t *text)
{
    if (!cbor_string_is_definite(text))
        die("a text of indefinite length");
    const unsigned char *data = cbor_string_handle(text);
    fputc('"', out);
    for (size_t i = 0; i < cbor_string_length(text); i++) {
        if (data[i] < ' ' || data[i] == '"' || data[i] == '\\')
            fprintf(out, "\\u%04x", data[i]);
        else
            fputc(data[i], out);
    }
    fputc('"', out);
}

static void print_bytes(FILE *out, const cbor_item_t *bytestring)
{
    if (!cbor_bytestring_is_definite(bytestring))
        die("a byte string of indefinite length");
    fputs("{\"hex\":\"", out);
    for (size_t i = 0; i < cbor_bytestring_length(bytestring); i++)
        fprintf(out, "%02x", cbor_bytestring_handle(bytestring)[i]);
    fputs("\"}", out);
}

static void print_array(FILE *out, const cbor_item_t *array)
{
    if (!cbor_array_is_definite(array))
        die("an array of indefinite length");
    fputc('[', out);
    for (size_t i = 0; i < cbor_array_size(array); i++) {
        fputs(i > 0 ? "," : "", out);
        print_item(out, cbor_array_handle(array)[i]);
    }
    fputc(']', out);
}

static void print_map(FILE *out, const cbor_item_t *map)
{
    if (!cbor_map_is_definite(map))
        die("a map of indefinite length");
    fputc('{', out);
    for (size_t i = 0; i < cbor_map_size(map); i++) {
        struct cbor_pair pair = cbor_map_handle(map)[i];
        if (!cbor_isa_string(pair.key))
            die("a map's key that is no text");
        fputs(i > 0 ? "," : "", out);
        print_text(out, pair.key);
        fputc(':', out);
        print_item(out, pair.value);
    }
    fputc('}', out);
}

static void print_float_or_constant(FILE *out, const cbor_item_t *item)
{
    if (!cbor_float_ctrl_is_ctrl(item))
        fprintf(out, "%.17g", cbor_float_get_float(item));
    else if (cbor_is_null(item))
        fputs("null", out);
    else if (cbor_is_bool(item))
        fputs(cbor_ctrl_value(item) == CBOR_CTRL_TRUE ? "true" : "false", out);
    else
        die("simple value %d", cbor_ctrl_value(item));
}

static void print_item(FILE *out, const cbor_item_t *item)
{
    switch (cbor_typeof(item)) {
    case CBOR_TYPE_UINT:
        fprintf(out, "%" PRIu64, cbor_get_int(item));
        break;
    case CBOR_TYPE_NEGINT:
        fprintf(out, "%" PRId64, -1 - (int64_t)cbor_get_int(item));
        break;
    case CBOR_TYPE_BYTESTRING:
        print_bytes(out, item);
        break;
    case CBOR_TYPE_STRING:
        print_text(out, item);
        break;
    case CBOR_TYPE_ARRAY:
        print_array(out, item);
        break;
    case CBOR_TYPE_MAP:
        print_map(out, item);
        break;
    case CBOR_TYPE_FLOAT_CTRL:
        print_float_or_constant(out, item);
        break;
    default:
        die("a tag in a reply");
    }
}

/* --- the socket ------------------------------------------------------------------------------------------------ */

struct client {
    void *socket;
    bool is_req;
    bool framed;
    uint64_t sent;          /* in the client's life; the next request's id */
    uint64_t first;         /* the id of the first request since the last empty line */
    uint64_t open;          /* requests that have no reply */
    bool waiting[MAX_OPEN]; /* by id - first */
    FILE *replies;          /* printed at the next empty line */
};

static void set(void *socket, int option, int value)
{
    if (zmq_setsockopt(socket, option, &value, sizeof value) != 0)
        die("socket option %d: %s", option, zmq_strerror(zmq_errno()));
}

static void *connected(void *context, const char *endpoint, int type)
{
    void *socket = zmq_socket(context, type);
    if (socket == NULL)
        die("no socket: %s", zmq_strerror(zmq_errno()));
    set(socket, ZMQ_LINGER, 0);
    set(socket, ZMQ_IMMEDIATE, 1);
    set(socket, ZMQ_HEARTBEAT_IVL, 500);
    set(socket, ZMQ_HEARTBEAT_TIMEOUT, 1500);
    set(socket, ZMQ_RECONNECT_IVL_MAX, 2000);
    set(socket, ZMQ_SNDTIMEO, REPLY_TIMEOUT_MS);
    set(socket, ZMQ_RCVTIMEO, REPLY_TIMEOUT_MS);
    if (zmq_connect(socket, endpoint) != 0)
        die("%s: %s", endpoint, zmq_strerror(zmq_errno()));
    return socket;
}

/* Returns the next reply. */
static cbor_item_t *receive(const struct client *client)
{
    zmq_msg_t body;
    size_t expected = client->framed ? 2 : 1, frames = 0;
    zmq_msg_init(&body);
    do {
        if (zmq_msg_recv(&body, client->socket, 0) < 0)
            die("%" PRIu64 " requests have no reply: %s", client->open, zmq_strerror(zmq_errno()));
        if (++frames < expected && zmq_msg_size(&body) != 0)
            die("a framed request got an unframed reply");
    } while (zmq_msg_more(&body));
    if (frames != expected)
        die("a reply of %zu frames, not %zu", frames, expected);
    struct cbor_load_result result;
    cbor_item_t *reply = cbor_load(zmq_msg_data(&body), zmq_msg_size(&body), &result);
    if (reply == NULL || result.read != zmq_msg_size(&body) || !cbor_isa_map(reply))
        die("a reply is not one CBOR map");
    zmq_msg_close(&body);
    return reply;
}

static uint64_t id_of(const cbor_item_t *reply)
{
    for (size_t i = 0; i < cbor_map_size(reply); i++) {
        struct cbor_pair pair = cbor_map_handle(reply)[i];
        if (!cbor_isa_string(pair.key) || cbor_string_length(pair.key) != 2)
            continue;
        if (memcmp(cbor_string_handle(pair.key), "id", 2) == 0 && cbor_isa_bytestring(pair.value)) {
            uint64_t id = 0;
            for (size_t byte = cbor_bytestring_length(pair.value); byte-- > 0;)
                id = id << 8 | cbor_bytestring_handle(pair.value)[byte];
            return id;
        }
    }
    die("a reply without the id of a request");
}

static void settle(struct client *client)
{
    cbor_item_t *reply = receive(client);
    uint64_t number = id_of(reply) - client->first;
    if (number >= client->sent - client->first || !client->waiting[number])
        die("nobody waits for the reply %" PRIu64, id_of(reply));
    client->waiting[number] = false;
    client->open--;
    fprintf(client->replies, "[%" PRIu64 ",", number);
    print_item(client->replies, reply);
    fputs("]\n", client->replies);
    cbor_decref(&reply);
}

static void send_request(struct client *client, char *line)
{
    uint64_t id = client->sent++;
    if (id - client->first == MAX_OPEN)
        die("more than %d requests under way", MAX_OPEN);
    cbor_item_t *map = request(id, line);
    unsigned char *body;
    size_t capacity, size = cbor_serialize_alloc(map, &body, &capacity);
    if (size == 0)
        die("a request could not be encoded");
    if (client->framed && zmq_send(client->socket, "", 0, ZMQ_SNDMORE) < 0)
        die("not sent: %s", zmq_strerror(zmq_errno()));
    if (zmq_send(client->socket, body, size, 0) < 0)
        die("not sent: %s", zmq_strerror(zmq_errno()));
    client->waiting[id - client->first] = true;
    client->open++;
    free(body);
    cbor_decref(&map);
    if (client->is_req)
        settle(client);
}

int main(int count, char **arguments)
{
    if (count != 3)
        die("usage: client ENDPOINT dealer|framed-dealer|req");
    static struct client client = {0};
    void *context = zmq_ctx_new();
    client.is_req = strcmp(arguments[2], "req") == 0;
    client.framed = strcmp(arguments[2], "framed-dealer") == 0;
    client.socket = connected(context, arguments[1], client.is_req ? ZMQ_REQ : ZMQ_DEALER);
    char *printed = NULL, *line = NULL;
    size_t printed_size = 0, capacity = 0;
    client.replies = open_memstream(&printed, &printed_size);
    for (ssize_t size; (size = getline(&line, &capacity, stdin)) > 0;) {
        line[size - 1] = '\0';
        if (*line != '\0') {
            send_request(&client, line);
            continue;
        }
        while (client.open > 0)
            settle(&client);
        client.first = client.sent;
        fclose(client.replies);
        fputs(printed, stdout);
        fflush(stdout);
        free(printed);
        client.replies = open_memstream(&printed, &printed_size);
    }
    fclose(client.replies);
    free(printed);
    free(line);
    zmq_close(client.socket);
    zmq_ctx_term(context);
    return 0;
}
