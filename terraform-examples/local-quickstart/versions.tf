terraform {
  # terraform_data, which is built in: terraform init downloads nothing.
  required_version = ">= 1.4.0"
}
