/* Says where it runs and what it was given, and ends with the exit code 4. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *pod = getenv("HOSTNAME");
    printf("hello from %s, in C, with %d arguments\n", pod ? pod : "nowhere", argc - 1);
    for (int i = 1; i < argc; i++) {
        printf("argument %d: %s\n", i, argv[i]);
    }
    return 4;
}
