#include "internal.h"

/*
 * Intel's Multi-Buffer Crypto library, through its public interface. It exists for x86-64 only, so
 * it is opened at run time; a machine without it runs on libsodium.
 */

#if defined(__x86_64__) && __has_include(<intel-ipsec-mb.h>)

#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <sodium.h>

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static IMB_MGR *(*library_alloc)(uint64_t);
static void (*library_free)(IMB_MGR *);
static void (*library_init)(IMB_MGR *, IMB_ARCH *);
/* Expands AES keys; written once before any reader. */
static IMB_MGR *expander;

/* A manager that is ready. On a processor without AES-NI the library leaves its pointers empty. */
static IMB_MGR *new_manager(void) {
    IMB_MGR *manager = library_alloc(0);
    if (manager == NULL) return NULL;
    IMB_ARCH chosen = IMB_ARCH_NONE;
    library_init(manager, &chosen);
    if (chosen > IMB_ARCH_NOAESNI) return manager;
    library_free(manager);
    return NULL;
}

static void open_library(void) {
    void *library = dlopen("libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return;
    unsigned (*version)(void) = (unsigned (*)(void))dlsym(library, "imb_get_version");
    /* The manager is a struct of function pointers whose layout belongs to one minor version. */
    if (version == NULL || (version() >> 8) != (IMB_VERSION_NUM >> 8)) return;
    library_alloc = (IMB_MGR * (*)(uint64_t)) dlsym(library, "alloc_mb_mgr");
    library_free = (void (*)(IMB_MGR *))dlsym(library, "free_mb_mgr");
    library_init = (void (*)(IMB_MGR *, IMB_ARCH *))dlsym(library, "init_mb_mgr_auto");
    if (library_alloc == NULL || library_free == NULL || library_init == NULL) return;
    expander = new_manager();
}

/* A single-packet AEAD job is complete when submitting it returns: nothing stays queued. */
static int run_chacha(
    IMB_MGR *manager, const packet_key *key, uint64_t counter, const uint8_t *input, size_t count,
    uint8_t *output, uint8_t *tag, IMB_CIPHER_DIRECTION direction) {
    uint8_t nonce[12];
    nonce_little(nonce, counter);
    IMB_JOB *job = IMB_GET_NEXT_JOB(manager);
    job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
    job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
    job->cipher_direction = direction;
    job->chain_order =
        direction == IMB_DIR_ENCRYPT ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
    job->enc_keys = key_part(key, KEY_RAW);
    job->dec_keys = key_part(key, KEY_RAW);
    job->key_len_in_bytes = 32;
    job->src = input;
    job->dst = output;
    job->cipher_start_src_offset_in_bytes = 0;
    job->msg_len_to_cipher_in_bytes = count;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_hash_in_bytes = count;
    job->iv = nonce;
    job->iv_len_in_bytes = 12;
    job->u.CHACHA20_POLY1305.aad = NULL;
    job->u.CHACHA20_POLY1305.aad_len_in_bytes = 0;
    job->auth_tag_output = tag;
    job->auth_tag_output_len_in_bytes = PACKET_TAG_BYTES;
    IMB_JOB *done = IMB_SUBMIT_JOB_NOCHECK(manager);
    if (done == NULL) done = IMB_FLUSH_JOB(manager);
    return done != NULL && done->status == IMB_STATUS_COMPLETED ? 0 : -1;
}

static void seal_chacha(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    if (run_chacha(
            engine->manager, key, counter, input, count, output, output + count,
            IMB_DIR_ENCRYPT) != 0) {
        /* Cannot happen; a packet without a valid tag leaks nothing and is refused. */
        memset(output, 0, count + PACKET_TAG_BYTES);
    }
}

static int open_chacha(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    if (count < PACKET_TAG_BYTES) return -1;
    uint8_t tag[PACKET_TAG_BYTES];
    size_t length = count - PACKET_TAG_BYTES;
    if (run_chacha(
            engine->manager, key, counter, input, length, output, tag, IMB_DIR_DECRYPT) != 0) {
        return -1;
    }
    return compare_tags(tag, input + length);
}

static void seal_aes(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    uint8_t nonce[12];
    struct gcm_context_data context;
    nonce_big(nonce, counter);
    IMB_AES256_GCM_ENC(
        (IMB_MGR *)engine->manager,
        (const struct gcm_key_data *)key_part(key, KEY_IPSEC_MB_AES), &context, output, input,
        count, nonce, NULL, 0, output + count, PACKET_TAG_BYTES);
}

static int open_aes(
    const struct packet_engine *engine, const packet_key *key, uint64_t counter,
    const uint8_t *input, size_t count, uint8_t *output) {
    if (count < PACKET_TAG_BYTES) return -1;
    uint8_t nonce[12], tag[PACKET_TAG_BYTES];
    struct gcm_context_data context;
    size_t length = count - PACKET_TAG_BYTES;
    nonce_big(nonce, counter);
    IMB_AES256_GCM_DEC(
        (IMB_MGR *)engine->manager,
        (const struct gcm_key_data *)key_part(key, KEY_IPSEC_MB_AES), &context, output, input,
        length, nonce, NULL, 0, tag, PACKET_TAG_BYTES);
    return compare_tags(tag, input + length);
}

int ipsec_mb_start(struct packet_engine *engine) {
    pthread_once(&opened, open_library);
    if (expander == NULL) return -1;
    engine->manager = new_manager();
    if (engine->manager == NULL) return -1;
    engine->seal_chacha = seal_chacha;
    engine->open_chacha = open_chacha;
    /* Both suites answer in constant time: with AES-NI nothing is looked up in tables. */
    if (crypto_aead_aes256gcm_is_available()) {
        engine->seal_aes = seal_aes;
        engine->open_aes = open_aes;
    }
    return 0;
}

void ipsec_mb_stop(struct packet_engine *engine) {
    if (engine->manager != NULL) library_free(engine->manager);
}

void ipsec_mb_expand_aes(void *destination, const uint8_t *raw) {
    _Static_assert(sizeof(struct gcm_key_data) <= 1024, "the key layout reserves 1,024");
    pthread_once(&opened, open_library);
    if (expander != NULL) IMB_AES256_GCM_PRE(expander, raw, (struct gcm_key_data *)destination);
}

#else

int ipsec_mb_start(struct packet_engine *engine) {
    (void)engine;
    return -1;
}

void ipsec_mb_stop(struct packet_engine *engine) { (void)engine; }

void ipsec_mb_expand_aes(void *destination, const uint8_t *raw) {
    (void)destination;
    (void)raw;
}

#endif
