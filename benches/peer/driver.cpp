// Runs and times llama.cpp: one command per line on standard input, one line of answer on standard
// output.
//
//   driver MODEL THREADS             reads commands
//   driver --requantise FROM TO      writes FROM as Q4_0, the format of llama.cpp's fastest kernels
//
//   info             sizes of the vocabulary and of the weights, and compiled instruction sets
//   peak             multiply-adds per second of the CPU's widest product of bytes, and of floats,
//                    and the name of the former
//   context N        drops all but the first N tokens read so far; reads synthetic ones up to N
//   prefill N        seconds to read N tokens into an empty context, with the last one's logits
//   pass N           seconds of a pass over N tokens after the context, with the logits of all;
//                    they are dropped afterward
//   decode N         seconds to decode N tokens greedily after the context; they are dropped
//                    afterward
//   logits T1 T2...  reads these tokens and keeps them; the answer is followed by a row of floats
//                    for each
//
// An answer is "ok" and the result, or "error" and the reason.
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
}

// Multiply-adds per iteration of the loops below, of bytes and of floats, on one thread.
#if defined(__AVX512VNNI__)
constexpr double A_TURN = 16 * 64, FLOATS_A_TURN = 16 * 16;
const char *const INSTRUCTION = "vpdpbusd, 512 bits";
#elif defined(__AVXVNNI__)
constexpr double A_TURN = 12 * 32, FLOATS_A_TURN = 12 * 8;
const char *const INSTRUCTION = "vpdpbusd, 256 bits";
#elif defined(__AVX2__)
constexpr double A_TURN = 12 * 32, FLOATS_A_TURN = 12 * 8;
const char *const INSTRUCTION = "vpmaddubsw and vpaddw, 256 bits";
#elif defined(__ARM_FEATURE_DOTPROD)
constexpr double A_TURN = 16 * 16, FLOATS_A_TURN = 16 * 4;
const char *const INSTRUCTION = "sdot, 128 bits";
#else
constexpr double A_TURN = 0, FLOATS_A_TURN = 0;
const char *const INSTRUCTION = "none that is known here";
#endif

// The instruction on registers only, with enough sums to hide its latency. Each sum is a variable
// and each product is written out: with an array and intrinsics GCC makes two copies for each
// product, which halves the peak.
#define TWELVE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define SIXTEEN(DO) TWELVE(DO) DO(12) DO(13) DO(14) DO(15)

void multiply(long turns) {
#if defined(__AVX512VNNI__)
#define SUM(i) __m512i sum##i = _mm512_setzero_si512();
#define PRODUCT(i) asm volatile("vpdpbusd %2, %1, %0" : "+v"(sum##i) : "v"(a), "v"(b));
    const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
    SIXTEEN(SUM)
    for (long t = 0; t < turns; t++) { SIXTEEN(PRODUCT) }
#elif defined(__AVXVNNI__)
#define SUM(i) __m256i sum##i = _mm256_setzero_si256();
#define PRODUCT(i) asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum##i) : "x"(a), "x"(b));
    const __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(1);
    TWELVE(SUM)
    for (long t = 0; t < turns; t++) { TWELVE(PRODUCT) }
#elif defined(__AVX2__)
#define SUM(i) __m256i sum##i = _mm256_setzero_si256();
#define PRODUCT(i) \
    asm volatile("vpmaddubsw %2, %3, %1\n\tvpaddw %1, %0, %0" : "+x"(sum##i), "=&x"(product) : "x"(a), "x"(b));
    const __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(1);
    __m256i product;
    TWELVE(SUM)
    for (long t = 0; t < turns; t++) { TWELVE(PRODUCT) }
#elif defined(__ARM_FEATURE_DOTPROD)
#define SUM(i) int32x4_t sum##i = vdupq_n_s32(0);
#define PRODUCT(i) asm volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum##i) : "w"(a), "w"(b));
    const int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(1);
    SIXTEEN(SUM)
    for (long t = 0; t < turns; t++) { SIXTEEN(PRODUCT) }
#else
    (void)turns;
#endif
}

#undef SUM
#undef PRODUCT

// The same with fused multiply-adds of floats.
void fuse(long turns) {
#if defined(__AVX512F__)
#define SUM(i) __m512 sum##i = _mm512_setzero_ps();
#define PRODUCT(i) asm volatile("vfmadd231ps %2, %1, %0" : "+v"(sum##i) : "v"(a), "v"(b));
    const __m512 a = _mm512_set1_ps(1), b = _mm512_set1_ps(1);
    SIXTEEN(SUM)
    for (long t = 0; t < turns; t++) { SIXTEEN(PRODUCT) }
#elif defined(__AVX2__) && defined(__FMA__)
#define SUM(i) __m256 sum##i = _mm256_setzero_ps();
#define PRODUCT(i) asm volatile("vfmadd231ps %2, %1, %0" : "+x"(sum##i) : "x"(a), "x"(b));
    const __m256 a = _mm256_set1_ps(1), b = _mm256_set1_ps(1);
    TWELVE(SUM)
    for (long t = 0; t < turns; t++) { TWELVE(PRODUCT) }
#elif defined(__ARM_FEATURE_DOTPROD)
#define SUM(i) float32x4_t sum##i = vdupq_n_f32(0);
#define PRODUCT(i) asm volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum##i) : "w"(a), "w"(b));
    const float32x4_t a = vdupq_n_f32(1), b = vdupq_n_f32(1);
    SIXTEEN(SUM)
    for (long t = 0; t < turns; t++) { SIXTEEN(PRODUCT) }
#else
    (void)turns;
#endif
}

// Multiply-adds per second on this many threads at once: no product can be faster.
double peak(int threads, void (*loop)(long), double a_turn) {
    constexpr long TURNS = 10000000;
    Clock::time_point start = Clock::now();
    std::vector<std::thread> all;
    for (int i = 0; i < threads; i++) all.emplace_back(loop, TURNS);
    for (std::thread &thread : all) thread.join();
    return threads * TURNS * a_turn / seconds(start);
}

// Capacity of the contexts in tokens.
constexpr int ROOM = 1024;

struct Driver {
    llama_model *model;
    llama_context *context;
    const llama_vocab *vocab;
    int words;
    int threads;
    int length = 0;

    Driver(const char *path, int threads) : threads(threads) {
        llama_backend_init();
        model = llama_model_load_from_file(path, llama_model_default_params());
        if (!model) throw std::runtime_error("llama.cpp can't load the model");
        llama_context_params params = llama_context_default_params();
        params.n_ctx = ROOM;
        params.n_batch = params.n_ubatch = 512;
        params.n_threads = params.n_threads_batch = threads;
        context = llama_init_from_model(model, params);
        if (!context) throw std::runtime_error("llama.cpp can't make a context");
        vocab = llama_model_get_vocab(model);
        words = llama_vocab_n_tokens(vocab);
    }

    // Returns the i-th synthetic token, the same as on our side.
    llama_token word(int64_t i) const { return llama_token(i * 7919 % words); }

    void forget(int from) {
        llama_memory_seq_rm(llama_get_memory(context), 0, from, -1);
        length = from;
    }

    // Runs one pass, with the logits of all tokens or only of the last one.
    void run(const std::vector<llama_token> &tokens, bool all) {
        llama_batch batch = llama_batch_init(int(tokens.size()), 0, 1);
        batch.n_tokens = int(tokens.size());
        for (int i = 0; i < batch.n_tokens; i++) {
            batch.token[i] = tokens[i];
            batch.pos[i] = length + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = all || i + 1 == batch.n_tokens;
        }
        int status = llama_decode(context, batch);
        llama_synchronize(context);
        llama_batch_free(batch);
        if (status != 0) throw std::runtime_error("llama_decode gave " + std::to_string(status));
        length += int(tokens.size());
    }

    std::vector<llama_token> made_up(int count) const {
        std::vector<llama_token> tokens(count);
        for (int i = 0; i < count; i++) tokens[i] = word(i);
        return tokens;
    }

    llama_token likeliest(int row) const {
        const float *logits = llama_get_logits_ith(context, row);
        return llama_token(std::max_element(logits, logits + words) - logits);
    }

    void answer(const std::string &line) {
        std::istringstream in(line);
        std::string command;
        int n = 0;
        in >> command;
        if (command == "info") {
            std::printf("ok %d %llu %s\n", words, (unsigned long long)llama_model_size(model), llama_print_system_info());
            return;
        }
        if (command == "peak") {
            double bytes = peak(threads, multiply, A_TURN), floats = peak(threads, fuse, FLOATS_A_TURN);
            std::printf("ok %.6e %.6e %s\n", bytes, floats, INSTRUCTION);
            return;
        }
        if (command == "logits") {
            std::vector<llama_token> tokens;
            for (llama_token token; in >> token;) tokens.push_back(token);
            run(tokens, true);
            std::printf("ok\n");
            for (size_t i = 0; i < tokens.size(); i++) {
                std::fwrite(llama_get_logits_ith(context, int(i)), sizeof(float), words, stdout);
            }
            return;
        }
        if (!(in >> n) || n < 0 || n > ROOM) throw std::runtime_error("no such count of tokens");
        if (command == "context") {
            forget(std::min(n, length));
            if (length < n) {
                std::vector<llama_token> tokens = made_up(n);
                tokens.erase(tokens.begin(), tokens.begin() + length);
                run(tokens, false);
            }
            std::printf("ok\n");
            return;
        }
        int before = length;
        if (command == "prefill") forget(0);
        std::vector<llama_token> tokens = made_up(n);
        Clock::time_point start = Clock::now();
        if (command == "prefill") {
            run(tokens, false);
            likeliest(-1);
        } else if (command == "pass") {
            run(tokens, true);
            llama_get_logits_ith(context, 0);
        } else if (command == "decode") {
            llama_token token = word(0);
            for (int i = 0; i < n; i++) {
                run({token}, true);
                token = likeliest(0);
            }
        } else {
            throw std::runtime_error("no such command");
        }
        std::printf("ok %.9f\n", seconds(start));
        forget(command == "prefill" ? 0 : before);
    }
};

void quiet(ggml_log_level level, const char *text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

int requantise(const char *from, const char *to) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = LLAMA_FTYPE_MOSTLY_Q4_0;
    params.allow_requantize = true;
    llama_backend_init();
    return llama_model_quantize(from, to, &params) == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char **arguments) {
    llama_log_set(quiet, nullptr);
    std::string first = count > 1 ? arguments[1] : "";
    try {
        if (count == 4 && first == "--requantise") return requantise(arguments[2], arguments[3]);
        if (count != 3) throw std::runtime_error("give a model and a count of threads");
        Driver driver(arguments[1], std::stoi(arguments[2]));
        for (std::string line; std::getline(std::cin, line);) {
            try {
                driver.answer(line);
            } catch (const std::exception &error) {
                std::printf("error %s\n", error.what());
            }
            std::fflush(stdout);
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
