// What entries are made of: checksums, evenly spaced times, sessions.
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

namespace scanbus {

inline std::string hexadecimal(const std::string &octets) {
    std::string found;
    for (unsigned char octet : octets) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", octet);
        found += digits;
    }
    return found;
}

inline std::string today() {
    const std::time_t moment = std::time(nullptr);
    char text[9];
    std::strftime(text, sizeof text, "%Y%m%d", std::gmtime(&moment));
    return text;
}

inline uint64_t checksum(const std::string &bytes) {
    return XXH3_64bits(bytes.data(), bytes.size());
}

// The times for which two in a header stand. Each operation is rounded: no fused
// multiply-add, hence -ffp-contract=off.
inline std::string evenly_spaced(const std::vector<double> &times) {
    const auto count = times.size();
    const double first = times.front(), last = times.back();
    const double step = count > 1 ? (last - first) / double(count - 1) : 0;
    std::vector<double> even(count, first);
    for (size_t k = 1; k + 1 < count; ++k) even[k] = first + double(k) * step;
    if (count > 1) even[count - 1] = last;
    return {reinterpret_cast<const char *>(even.data()), 8 * count};
}

}  // namespace scanbus
