variable "name" {
  description = "The cluster's name, and with a number that of its machines."
  type        = string
  default     = "quickstart"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$", var.name))
    error_message = "A name is at most 31 lower case letters, digits and '-' in between, and begins with a letter."
  }
}

variable "workers" {
  description = "Worker machines. Another number changes the cluster as it runs; nodes that go are drained first."
  type        = number
  default     = 1

  validation {
    condition     = var.workers >= 0 && var.workers <= 100 && floor(var.workers) == var.workers
    error_message = "Workers are a whole number from 0 to 100."
  }
}

variable "kprov" {
  description = "The program: a path, or a name to be found in PATH."
  type        = string
  default     = "kprov"
}

variable "wait" {
  description = "How long nodes may take to be Ready."
  type        = string
  default     = "5m"
}
