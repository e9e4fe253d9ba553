/* The sandbox of a pod: holds its namespaces and reaps orphans, until it is told to end. */
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_signal(int signal_number)
{
    if (signal_number != SIGCHLD)
        _exit(0);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int main(void)
{
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGCHLD, on_signal);
    for (;;)
        pause();
}
